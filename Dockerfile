# syntax=docker/dockerfile:1
# A small image that needs nothing but its configuration: the program, the C library, certificates.
#
#   docker build -t maint .
#   docker run --read-only --tmpfs /tmp -v ./config:/etc/maint:ro -e DATABASE_URL maint run analyze --now
#
# There is no shell in it: commands of a task's own need an image that begins with this one.
#
# The base by digest, so that a build can be repeated:
#   docker buildx imagetools inspect rust:1.95-slim-bookworm --format '{{.Manifest.Digest}}'
#   docker build --build-arg RUST=rust:1.95-slim-bookworm@sha256:… -t maint .
ARG RUST=rust:1.95-slim-bookworm

FROM ${RUST} AS build
# hadolint ignore=DL3008 # the versions are those of the base image's release
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential ca-certificates \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# `demo` builds in a third of the time, for trying things out.
ARG PROFILE=release

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The dependencies change seldom: a layer of their own, made with an empty program.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src tests/it \
 && echo 'fn main() {}' | tee src/main.rs tests/it/main.rs \
 && touch src/lib.rs \
 && cargo build --locked --profile "$PROFILE" \
 && rm -rf src tests

COPY . .
# The empty program is newer than the real one: without a touch cargo would keep it.
RUN touch src/main.rs src/lib.rs \
 && cargo build --locked --profile "$PROFILE" \
 && ./scripts/rootfs "target/$PROFILE/maint" /out

FROM scratch
COPY --from=build /out /
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="maint" \
      org.opencontainers.image.description="Looks after PostgreSQL and MongoDB databases" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENV MAINT_CONFIG=/etc/maint/schedules.yaml \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    HOME=/var/lib/maint
# A history in a file belongs here: `history: sqlite:/var/lib/maint/maint.db`.
VOLUME /var/lib/maint
WORKDIR /var/lib/maint
EXPOSE 8288
ENTRYPOINT ["/usr/local/bin/maint"]
CMD ["--help"]
