# MiniWoB's tasks in Chromium on TigerVNC's screen; `raygym images build wob` makes its context.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS python
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv python3-pip \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --without-pip /opt/raygym
COPY wheels /wheels
RUN python3 -m pip --python /opt/raygym/bin/python install --no-cache-dir --no-index \
        --find-links /wheels -r /wheels/requirements.txt

FROM python AS raygym
COPY raygym /raygym
RUN python3 -m pip --python /opt/raygym/bin/python install --no-cache-dir --no-index --no-deps \
        /raygym/*.whl

FROM ${BASE}
# tini reaps what Chromium leaves behind; util-linux has setpriv. Nobody draws with GL here, so
# its drivers and their compiler go, a quarter of the image.
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        chromium python3 tigervnc-standalone-server tini util-linux \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /usr/share/icons/* \
        /usr/lib/*-linux-gnu/dri /usr/lib/*-linux-gnu/libLLVM* /usr/lib/*-linux-gnu/libz3.* \
        /usr/lib/chromium/libVkLayer* /usr/lib/chromium/libvk_swiftshader*
COPY cache /opt/raygym/cache
COPY --from=python /opt/raygym /opt/raygym
ARG VERSION
ARG PACKAGES=/opt/raygym/lib/python3.11/site-packages
COPY --from=raygym ${PACKAGES}/raygym ${PACKAGES}/raygym
COPY --from=raygym ${PACKAGES}/raygym-${VERSION}.dist-info ${PACKAGES}/raygym-${VERSION}.dist-info
# No capability is left for Chromium's own sandbox: the container is the sandbox.
ENV PATH=/opt/raygym/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    RAYGYM_CACHE=/opt/raygym/cache \
    RAYGYM_CHROMIUM_SANDBOX=off
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["tini", "--", "python", "-m", "raygym.runtimes", "wob"]
CMD ["--directory", "/run/raygym"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "raygym.runtimes.healthcheck", "/run/raygym"]
ARG BASE
ARG SOURCE
LABEL org.opencontainers.image.title="raygym/wob" \
      org.opencontainers.image.description="MiniWoB's tasks in a browser behind a screen, for raygym" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${SOURCE}" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.licenses="MIT"
