"""Runs jobs: the link to the helper, the queue in front of it, and what a job goes through.

Theory of operation. A request that asks for one program with no streaming never gets a task of its
own. `jobs.Engine.submit` asks the `scheduler` for a place; with a place the job is packed (`wire`)
and sent straight from the task that read the request. The helper's answer is read by the one task
of `helper.HelperLink`, which turns it into a result and calls the job's `done` from there. So a job
costs two wake-ups of the event loop, however many there are.

Jobs with more to them (two stages, collected files, streamed output) run in a task of their own, in
the nursery of the connection they belong to.
"""
