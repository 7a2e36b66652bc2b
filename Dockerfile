# The gateway in a container, and its load test.
#
#   docker build --build-arg REVISION="$(git rev-parse --short=12 HEAD)" -t gateway .
#   docker run --rm -p 127.0.0.1:8000:8000 -p 127.0.0.1:9464:9464 -v gateway-data:/data gateway --open-on-any-address
#   docker build --target loadtest -t loadtest .
#
# What was accepted is in /data: without a volume of your own it is gone with the container. The volume belongs to one
# container at a time. A directory of the host in its place has to belong to the user 10001.
#
# Inside a container loopback is reached by nobody, so both listeners are bound to any address here. Without keys the gateway
# refuses to start like that until --open-on-any-address says that it is meant: whoever reaches the ports may send and listen.
# Publish them on 127.0.0.1 only, as above, or mount keys and name them in GATEWAY_AUTH_API_KEYS_FILE and
# GATEWAY_AUTH_TOKEN_KEY_FILES (README.md, Who may send and listen; deploy/). Pages of other origins than localhost need
# GATEWAY_HTTP_ALLOWED_ORIGINS.
#
# `docker stop` waits ten seconds before it kills; a gateway may take as long to end in order (shutdown.timeout, and two
# seconds more for the last spans), so give it more: `docker stop --time 20`. Whatever was answered with 202 is kept either way.

# The version that the tests run with; 1.90 is the oldest that will do.
FROM rust:1.95-bookworm AS builder
# The commit that is built, for `gateway --version` and the metric gateway_build_info; the sources here have no history.
ARG REVISION=unknown
# Line tables are four fifths of the programs; without them a backtrace still has the functions' names.
ENV REVISION=${REVISION} CARGO_PROFILE_RELEASE_STRIP=debuginfo
WORKDIR /build
COPY . .
RUN cargo build --release --locked --package gateway

# Behind the gateway and by itself: built together, the load test's crates would switch on features in the gateway's.
FROM builder AS loadtest-builder
RUN cargo build --release --locked --package loadtest

FROM debian:bookworm-slim AS loadtest
# Its HTTP client wants authorities to trust even where it is not asked to trust anybody.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin loadtest \
 && install --directory --owner=10001 /reports
COPY --from=loadtest-builder /build/target/release/loadtest /usr/local/bin/loadtest
USER 10001
VOLUME /reports
EXPOSE 9465
ENTRYPOINT ["loadtest"]

# The last one is what `docker build` makes when no target is named.
FROM debian:bookworm-slim AS gateway
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin gateway \
 && install --directory --owner=10001 --mode=0700 /data
COPY --from=builder /build/target/release/gateway /usr/local/bin/gateway
USER 10001
ENV GATEWAY_HTTP_LISTEN=0.0.0.0:8000 GATEWAY_OPS_LISTEN=0.0.0.0:9464 GATEWAY_LOG_STORE=disk:/data
VOLUME /data
EXPOSE 8000 9464
HEALTHCHECK --interval=10s --timeout=4s --start-period=5s --retries=3 CMD ["gateway", "healthcheck"]
ENTRYPOINT ["gateway"]
