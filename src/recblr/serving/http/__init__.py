"""The server: the HTTP interface of a model and its users, in the extra `serve`.

app.py answers one request; api.py holds the handlers; run.py starts the workers.
"""
