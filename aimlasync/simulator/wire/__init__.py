"""How answers go out: chat completions, responses, and HTTP by hand."""
