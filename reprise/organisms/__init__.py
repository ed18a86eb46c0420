"""Model organisms: tiny models whose answer is known because of what they were trained on."""
