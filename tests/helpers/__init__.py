"""What several test files share: tiny models, artefacts made without a method, stand-ins for what is slow or dangerous."""
