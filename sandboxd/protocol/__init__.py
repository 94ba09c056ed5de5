"""What goes over the socket, without a socket (sans I/O).

Theory of operation. Bytes from a peer go into `framing.FrameDecoder`, which finds where messages
end and refuses what is too long, too deep or too many-valued before anything is built from it.
A whole frame goes through `rpc.decode_request`, and its params through `rpc.decode_params`, which
gives one of the typed models of `models`; `jobs.job_spec` checks a job and turns it into the bytes
the engine needs. Answers are made by `rpc.encode_*`.

Nothing here opens a socket, starts a task or knows who the peer is. Blame is in the type of the
exception: `RemoteProtocolError` means the peer does not speak the protocol (close the connection),
`RequestError` that one request is wrong (answer it), `LocalProtocolError` that our own caller is.

The modules are imported one by one, on purpose: `errors` and `status` cost nothing to import and
are shared with the command line, which must not pay for the models.
"""
