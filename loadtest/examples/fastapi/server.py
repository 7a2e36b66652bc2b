"""The chat server that many start from: one dictionary from user to socket, nothing else.

It is here to be measured, so it is kept as it is usually written. What it does not do is the point: a second socket of a
user replaces the first, whoever is away misses the message, and a sender waits for the receiver's socket.
"""

from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from pydantic import BaseModel

app = FastAPI()
connections: dict[str, WebSocket] = {}


class Message(BaseModel):
    user_id: str
    message: str


@app.websocket("/ws/{user_id}")
async def receive(websocket: WebSocket, user_id: str) -> None:
    await websocket.accept()
    connections[user_id] = websocket
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        connections.pop(user_id, None)


@app.post("/send-message")
async def send_message(message: Message) -> dict[str, str]:
    websocket = connections.get(message.user_id)
    if websocket is None:
        raise HTTPException(status_code=404, detail="user not connected")
    await websocket.send_text(message.message)
    return {"status": "sent"}
