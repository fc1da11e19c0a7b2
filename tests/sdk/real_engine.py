"""A real engine program, llama.cpp's server, with the demo model; prints its address when it listens.

Started as `python real_engine.py MODEL.gguf`; ends when its standard input does.
"""

import sys

import xllamacpp


def main():
    parameters = xllamacpp.CommonParams()
    parameters.model.path = sys.argv[1]
    parameters.model_alias = {"cocoon-demo"}
    # Four slots share the context.
    parameters.n_parallel = 4
    parameters.n_ctx = 4 * 512
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.warmup = False
    parameters.fit_params = False
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.read()


main()
