"""Operations, each with one public function and one generator of steps."""
