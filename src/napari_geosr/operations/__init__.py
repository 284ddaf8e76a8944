"""Operations: each has one public function and one generator of steps."""
