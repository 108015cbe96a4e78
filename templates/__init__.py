"""What is needed to launch the jobs on Dataflow: template metadata, the image, BigQuery schemas (see README.md)."""
