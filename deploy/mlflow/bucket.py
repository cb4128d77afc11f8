"""Make the bucket that BUCKET names, unless it is there."""

import os

import boto3
from botocore.exceptions import ClientError

storage = boto3.client("s3")
try:
    storage.head_bucket(Bucket=os.environ["BUCKET"])
except ClientError as error:
    if error.response["Error"]["Code"] != "404":
        raise
    storage.create_bucket(Bucket=os.environ["BUCKET"])
