"""Tunes: a frozen encoder comes in, a PEFT adapter that knows what users like goes out."""
