"""The hallway that joins the rooms: the two planes that protocols may call, and what they stand on.

DataPlane answers requests, ControlPlane changes what is served. This room refuses to know any
protocol: values in, values or errors out.
"""
