"""The docker's widgets. They show a session and call the studio; they know neither Krita nor sockets."""
