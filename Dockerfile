# docker build -t dans . && docker run -v "$PWD/photos:/photos" -v "$PWD/runs:/dans/runs" dans dans-search /photos --board nrf52840
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /dans
COPY . .
RUN make install PYTHON=python3.11
ENV PATH="/dans/.venv/bin:$PATH"
