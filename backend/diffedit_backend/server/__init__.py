"""The process that owns the socket: keys, connections, blobs, jobs, results. It never runs a model.

listener           ROUTER sockets: frames in and out           authenticator   which keys may enter (ZAP)
client_connection  one ServerSession and its subscriptions     flood_guard     cuts a link that floods
uploads            blobs that clients sent                     results         what finished jobs left, kept on disk
job_table          jobs, their events and owners               fair_queue      whose job is next
service            answers requests                            process         the loop that turns all of this
"""
