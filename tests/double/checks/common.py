"""What the checks share: a client, the shortest way to each request, and what holds or not."""
import base64
import hashlib
import os
import sys
import threading
import time

import boto3
from awscrt import checksums as crt
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT, ACCESS_KEY, SECRET_KEY = sys.argv[1:4]
REGION = sys.argv[4] if len(sys.argv) > 4 else "us-east-1"
BUCKET = f"conformance-{int(time.time())}"
MIB = 1 << 20
PARTS = [os.urandom(5 * MIB), os.urandom(5 * MIB), os.urandom(MIB)]
WHOLE = b"".join(PARTS)
ALGORITHMS = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]
BAD_SUM = ("BadDigest", "XAmzContentChecksumMismatch")
CHECKS = []


def client(access=ACCESS_KEY, secret=SECRET_KEY, sums="when_required"):
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, connect_timeout=5,
                    read_timeout=60, request_checksum_calculation=sums, response_checksum_validation="when_required",
                    signature_version="s3v4")
    return boto3.client("s3", endpoint_url=ENDPOINT, aws_access_key_id=access, aws_secret_access_key=secret,
                        region_name=REGION, config=config)


S3 = client()


def check(name):
    def register(function):
        CHECKS.append((name, function))
        return function
    return register


def same(seen, wanted):
    if seen != wanted:
        raise AssertionError(f"{seen!r} instead of {wanted!r}"[:200])


def reason(error):
    if isinstance(error, ClientError):
        return error.response["ResponseMetadata"].get("HTTPStatusCode"), error.response["Error"].get("Code")
    return None, f"{type(error).__name__}: {error}"[:120]


def refused(status, codes, call, **arguments):
    """The call is refused with this status and one of these codes (any, if there are none)."""
    try:
        call(**arguments)
    except Exception as error:
        seen = reason(error)
        if seen[0] != status or codes and seen[1] not in codes:
            raise AssertionError(f"{seen} instead of {status} {codes}") from error
        return
    raise AssertionError("it was accepted")


def encoded(number, size):
    return base64.b64encode(number.to_bytes(size, "big")).decode()


def checksum(algorithm, data):
    if algorithm.startswith("SHA"):
        return base64.b64encode(hashlib.new(algorithm.lower(), data).digest()).decode()
    if algorithm == "CRC64NVME":
        return encoded(crt.crc64nvme(data), 8)
    return encoded((crt.crc32c if algorithm == "CRC32C" else crt.crc32)(data), 4)


def put(key, body=b"x", **more):
    return S3.put_object(Bucket=BUCKET, Key=key, Body=body, **more)


def head(key, **more):
    return S3.head_object(Bucket=BUCKET, Key=key, **more)


def get(key, **more):
    return S3.get_object(Bucket=BUCKET, Key=key, **more)


def begin(key, **more):
    return S3.create_multipart_upload(Bucket=BUCKET, Key=key, **more)["UploadId"]


def part(key, upload, number, body, **more):
    sent = S3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=number, Body=body, **more)
    return {"PartNumber": number, "ETag": sent["ETag"], **more}


def listed(key, upload, **more):
    return S3.list_parts(Bucket=BUCKET, Key=key, UploadId=upload, **more)


def completion(key, upload, parts, **more):
    return dict(Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, **more)


def complete(key, upload, parts, **more):
    return S3.complete_multipart_upload(**completion(key, upload, parts, **more))


def all_at_once(count, work):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, count + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
