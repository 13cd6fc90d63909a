"""An address in, exit status 0 out where its gRPC server says SERVING; 1 otherwise.

Speaks the standard health protocol (grpc.health.v1) and knows nothing of the ranker, so that a
container's health check loads no model and needs no further program in the image.

    python health.py HOST:50051 [--service NAME]
    python health.py HOST:50051 --ca ca.pem [--name ranker.example] [--certificate c --key k]
"""

import argparse
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 3.0


def is_serving(channel: grpc.Channel, service: str) -> bool:
    """Whether a server, as a whole or one of its names, is ready; an unreachable one is not."""
    try:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S
        )
    except grpc.RpcError as error:
        print(f"{error.code().name}: {error.details()}", file=sys.stderr)
        return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def opened(given: argparse.Namespace) -> grpc.Channel:
    """A channel to the address: TLS where an authority is given."""
    if given.ca is None:
        return grpc.insecure_channel(given.address)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=given.ca.read_bytes(),
        private_key=None if given.key is None else given.key.read_bytes(),
        certificate_chain=None if given.certificate is None else given.certificate.read_bytes(),
    )
    options = [("grpc.ssl_target_name_override", given.name)] if given.name else []
    return grpc.secure_channel(given.address, credentials, options=options)


def main() -> int:
    """The exit status."""
    options = argparse.ArgumentParser(description="Ask a gRPC server for its health.")
    options.add_argument("address", help="host:port")
    options.add_argument("--service", default="", help="without it, the server as a whole")
    options.add_argument("--ca", type=Path, help="who signed the server's certificate: speaks TLS")
    options.add_argument("--name", help="the certificate's, where the address has another")
    options.add_argument("--certificate", type=Path, help="of this caller, for mutual TLS")
    options.add_argument("--key", type=Path, help="of that certificate")
    given = options.parse_args()
    if (given.certificate is None) != (given.key is None):
        options.error("--certificate and --key go together")
    if given.certificate is not None and given.ca is None:
        options.error("--certificate needs --ca")
    with opened(given) as channel:
        return 0 if is_serving(channel, given.service) else 1


if __name__ == "__main__":
    sys.exit(main())
