"""What several test files share: builders, slow readers, references."""
