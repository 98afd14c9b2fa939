"""The docker's widgets. They show a session and call the app; they know neither Krita nor sockets."""
