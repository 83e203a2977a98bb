"""`DefineVisitsTask` over a list of exposures: the Task interface of Rubin's pipelines, and the driver behind it."""
