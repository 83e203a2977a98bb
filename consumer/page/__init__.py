"""The page for people: a JSON API over the tables, events of what changes, and the bundle that a browser shows.

A process of its own with a session of the reader role: it writes nothing, and any number of it can run. A request goes
through `consumer.page.app` (headers, files), `consumer.page.api` (parameters) and `consumer.page.answering` (a session,
an answer that many may share) to a question of `consumer.read`; the shapes of the answers stand in
`consumer.page.answers`. What changes is watched once, in `consumer.page.watch`, and handed to every open page by
`consumer.page.broadcast`.
"""
