"""Widgets: the docker and the dialogs. They show the model and call the app; they know neither Krita nor sockets."""
