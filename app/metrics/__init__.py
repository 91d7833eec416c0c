"""What is counted, and shown: prometheus_client is used here only."""
