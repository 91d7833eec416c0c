"""`python -m app.doctor`: what is wrong with a set-up, and what to change."""
