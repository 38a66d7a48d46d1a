"""The broker on RabbitMQ: Celery's queues, exchanges and messages, by AMQP 0-9-1."""
