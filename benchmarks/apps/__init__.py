"""The same tiny application twice: once for Celeriac, once for Celery.

Each module offers `app`, `add`, `echo`, `ring` and `send_many`; nothing else may differ between them.
"""
