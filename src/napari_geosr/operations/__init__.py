"""The verbs: each one public function and one generator of steps."""
