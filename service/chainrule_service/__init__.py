"""chainrule's REST service: the engine over HTTP, with jobs and limits.

app | serving     the Flask application; gunicorn around it
resources         one module for each resource: its paths, its schemas and its views
jobs              what it means to run a job
store             the jobs table
problems, jsonio, fields, documented      errors, JSON, input fields, documentation
settings          every setting and every limit
"""
