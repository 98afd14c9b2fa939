"""What the second edition of the scenes is drawn from: drawings, photographs of grounds, ways of painting."""
