"""Every SELECT, in small concrete classes whose methods say what they find."""
