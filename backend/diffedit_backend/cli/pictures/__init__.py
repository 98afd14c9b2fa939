"""What `diffedit edit` and `diffedit mask` share: arguments, one picture, many pictures, an edit on another backend."""
