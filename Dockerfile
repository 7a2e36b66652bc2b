# The gateway in a container.
#
#   docker build --build-arg REVISION="$(git rev-parse --short=12 HEAD)" -t gateway .
#   docker run --rm -p 127.0.0.1:8000:8000 -p 127.0.0.1:9464:9464 gateway --open-on-any-address
#
# Inside a container loopback is reached by nobody, so both listeners are bound to any address here. There are no keys yet,
# so the gateway refuses to start like that until --open-on-any-address says that it is meant: whoever reaches the ports may
# send and listen. Publish them on 127.0.0.1 only, as above. Pages of other
# origins than localhost need GATEWAY_HTTP_ALLOWED_ORIGINS.

FROM rust:1-bookworm AS builder
# The commit that is built, for `gateway --version` and the metric gateway_build_info; the sources here have no history.
ARG REVISION=unknown
ENV REVISION=${REVISION}
WORKDIR /build
COPY . .
RUN cargo build --release --locked --package gateway

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin gateway
COPY --from=builder /build/target/release/gateway /usr/local/bin/gateway
USER 10001
ENV GATEWAY_HTTP_LISTEN=0.0.0.0:8000 GATEWAY_OPS_LISTEN=0.0.0.0:9464
EXPOSE 8000 9464
HEALTHCHECK --interval=10s --timeout=4s --start-period=5s --retries=3 CMD ["gateway", "healthcheck"]
ENTRYPOINT ["gateway"]
