"""The process that owns the socket: keys, links, blobs, jobs, results. It never runs a model.

door        ROUTER sockets: frames of a link in and out          gate       which keys may enter (ZAP)
links       one ServerSession and its subscriptions per link     inflow     cuts a link that floods
uploads     blobs that clients sent                              results    what finished jobs left, kept on disk
job_table   jobs, their events and owners                        turns      whose job is next
service     answers requests                                     process    the loop that turns all of this
"""
