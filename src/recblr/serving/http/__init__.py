"""The server: the HTTP interface of a model and its users, in the extra `serve`.

app.py answers one request; api.py holds the handlers.  worker.py is a process that answers, parent.py starts
several of them, and run.py begins.
"""
