"""An OpenAI-compatible engine that follows a script, so that a test knows what must come back.

What it answers depends only on the request. It keeps the last request body as received: what the network lost
or changed on the way is visible there.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "scripted/model"


def words(count):
    return [f"w{index} " for index in range(count)]


def usage(prompt, completion):
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


class Engine(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One segment for each flush, as engines do.
    disable_nagle_algorithm = True

    def log_message(self, *_arguments):
        pass

    def do_GET(self):
        if self.path == "/v1/models":
            self.reply(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "test"}]})
        else:
            self.reply(404, {"error": {"message": "no such path", "type": "invalid_request_error", "param": None, "code": None}})

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["content-length"]))
        body = json.loads(raw)
        self.server.last_request = body
        if self.path == "/v1/completions":
            return self.completion(body)
        text = body["messages"][-1]["content"]
        if text == "be refused":
            message = "top_k must be positive, got -3"
            return self.reply(400, {"error": {"message": message, "type": "invalid_request_error", "param": "top_k", "code": "bad_value"}})
        if body.get("tools"):
            call = {"id": "call_1", "type": "function", "function": {"name": body["tools"][0]["function"]["name"], "arguments": '{"city": "Dubai"}'}}
            return self.chat(body, {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls")
        if body.get("response_format"):
            return self.chat(body, {"role": "assistant", "content": '{"name": "Cocoon", "roles": 3}'}, "stop")
        count = int(text.split()[-1]) if text.split()[-1].isdigit() else 5
        if body.get("stream"):
            return self.stream(body, count)
        self.chat(body, {"role": "assistant", "content": "".join(words(count))}, "stop", count)

    def chat(self, body, message, finish_reason, count=5):
        choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}
        if body.get("logprobs"):
            token = {"token": "w0", "logprob": -0.25, "bytes": [119, 48], "top_logprobs": []}
            choice["logprobs"] = {"content": [token], "refusal": None}
        self.reply(200, {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice], "usage": usage(7, count)})

    def completion(self, body):
        choice = {"index": 0, "text": "".join(words(3)), "finish_reason": "length", "logprobs": None}
        self.reply(200, {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": MODEL, "choices": [choice], "usage": usage(4, 3)})

    def stream(self, body, count):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
        for word in words(count):
            self.event({**base, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
        self.event({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if body.get("stream_options", {}).get("include_usage"):
            self.event({**base, "choices": [], "usage": usage(7, count)})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def event(self, value):
        self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def reply(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    last_request = None


def start():
    server = Server(("127.0.0.1", 0), Engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
