"""The HTTP server: models behind a socket, for programs and for people (extra ``logitext[serve]``).

A supervisor binds the socket, keeps a private copy of each model and starts workers; a worker is an
ASGI application under uvicorn. From the socket inwards: `connection`, `app`, `gate`, `questions`,
`serving`, `replies`.
"""
