"""Asks for several digits over one WebSocket, and prints what they are and what was read."""

import json

from sklearn.datasets import load_digits
from websockets.sync.client import connect

images, digits = load_digits(return_X_y=True)
with connect("ws://127.0.0.1:8000/ws/models/Digits") as socket:
    for number in range(1500, 1505):
        image = images[number].tolist()
        socket.send(json.dumps({"id": number, "inputs": {"image": image}}))
    for _ in range(5):
        answer = json.loads(socket.recv())
        print(digits[answer["id"]], answer["outputs"])
