# syntax=docker/dockerfile:1
# A small image that needs nothing but its configuration:
#
#   docker build -t maint .
#   docker run --read-only --tmpfs /tmp -v ./config:/etc/maint:ro -e DATABASE_URL maint run analyze --now

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential ca-certificates \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# `demo` builds in a third of the time, for trying things out.
ARG PROFILE=release

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
 && install -D "target/$PROFILE/maint" /out/usr/local/bin/maint \
 && install -d -m 0755 /out/etc/maint/tasks \
 && install -d -m 0750 -o 65532 -g 65532 /out/var/lib/maint

FROM debian:bookworm-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out /
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENV MAINT_CONFIG=/etc/maint/schedules.yaml
# A history in a file belongs here: `history: sqlite:/var/lib/maint/maint.db`.
VOLUME /var/lib/maint
WORKDIR /var/lib/maint
ENTRYPOINT ["/usr/local/bin/maint"]
CMD ["--help"]
