"""Attacks on a running server for as long as is asked, beside clients that must not notice."""
