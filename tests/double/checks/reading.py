"""What comes back: thaws, ranges, lists, versions; and what signatures and connections do."""
import datetime
import socket
import time
import urllib.parse

import botocore.auth
import urllib3
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from .common import (
    ACCESS_KEY, all_at_once, begin, BUCKET, check, checksum, client, complete, ENDPOINT, get, head, listed, MIB,
    part, PARTS, put, reason, refused, REGION, S3, same, SECRET_KEY)

HTTP = urllib3.PoolManager(retries=False, timeout=20)


# The archive.

def bulk(key, days=2, tier="Bulk"):
    wanted = {"Days": days, "GlacierJobParameters": {"Tier": tier}}
    return S3.restore_object(Bucket=BUCKET, Key=key, RestoreRequest=wanted)["ResponseMetadata"]["HTTPStatusCode"]


@check("GET DEEP_ARCHIVE unrestored -> 403 InvalidObjectState")
def _():
    refused(403, ["InvalidObjectState"], get, key="da/one")


@check("CopyObject from DEEP_ARCHIVE unrestored -> 403")
def _():
    refused(403, ["InvalidObjectState", "ObjectNotInActiveTierError"], S3.copy_object, Bucket=BUCKET, Key="da/copy",
            CopySource=f"{BUCKET}/da/one")


@check("RestoreObject Bulk -> 202")
def _():
    same(bulk("da/one"), 202)


@check("HeadObject Restore header after restore")
def _():
    same("ongoing-request" in head("da/one").get("Restore", ""), True)


@check("second RestoreObject (409 in progress / 200 done)")
def _():
    try:
        same(bulk("da/one"), 200)
    except ClientError as error:
        same(reason(error), (409, "RestoreAlreadyInProgress"))


@check("GET after restore works (maybe after wait)")
def _():
    for _ in range(20):
        try:
            return same(get("da/one")["Body"].read(), b"deep")
        except ClientError as error:
            last = error
            time.sleep(0.5)
    raise last


@check("Restore of a STANDARD object -> 403")
def _():
    refused(403, ["InvalidObjectState"], bulk, key="meta")


@check("Restore Expedited on DEEP_ARCHIVE -> 400")
def _():
    put("da/two", StorageClass="DEEP_ARCHIVE")
    refused(400, [], bulk, key="da/two", tier="Expedited")


# Reading.

@check("ranged GET 206 + Content-Range")
def _():
    data = bytes(range(256)) * 40
    put("rng", data)
    first = get("rng", Range="bytes=10-19")
    same((first["ResponseMetadata"]["HTTPStatusCode"], first["ContentRange"]), (206, "bytes 10-19/10240"))
    same(first["Body"].read(), data[10:20])
    same(get("rng", Range="bytes=-5")["Body"].read(), data[-5:])
    same(get("rng", Range="bytes=10000-")["Body"].read(), data[10000:])


@check("range past the end -> 416 InvalidRange")
def _():
    refused(416, ["InvalidRange"], get, key="rng", Range="bytes=99999-")


@check("GET If-Match wrong -> 412 (resume guard)")
def _():
    refused(412, [], get, key="rng", Range="bytes=1-2", IfMatch='"' + "0" * 32 + '"')


@check("GET partNumber=2 of a multipart object")
def _():
    upload = begin("pn")
    complete("pn", upload, [part("pn", upload, 1, PARTS[0]), part("pn", upload, 2, PARTS[2])])
    seen = get("pn", PartNumber=2)
    same((seen["Body"].read() == PARTS[2], seen.get("PartsCount")), (True, 2))


@check("full GET of a multipart object")
def _():
    same(get("pn")["Body"].read() == PARTS[0] + PARTS[2], True)


# The rest of a bucket.

@check("tagging: header, Put/Get/DeleteObjectTagging")
def _():
    def tags():
        return {one["Key"]: one["Value"] for one in S3.get_object_tagging(Bucket=BUCKET, Key="tag")["TagSet"]}
    put("tag", Tagging="a=1&b=x%20y")
    same(tags(), {"a": "1", "b": "x y"})
    S3.put_object_tagging(Bucket=BUCKET, Key="tag", Tagging={"TagSet": [{"Key": "n", "Value": "2"}]})
    same(tags(), {"n": "2"})
    S3.delete_object_tagging(Bucket=BUCKET, Key="tag")
    same(tags(), {})


@check("ListObjectsV2: pages, prefix, StorageClass")
def _():
    for number in range(5):
        put(f"ls/{number}", StorageClass="DEEP_ARCHIVE" if number % 2 else "STANDARD")
    pages = S3.get_paginator("list_objects_v2")
    pages = list(pages.paginate(Bucket=BUCKET, Prefix="ls/", PaginationConfig={"PageSize": 2}))
    seen = [(one["Key"], one["StorageClass"]) for page in pages for one in page["Contents"]]
    same((len(pages), [key for key, _ in seen]), (3, [f"ls/{number}" for number in range(5)]))
    same([kind for _, kind in seen[:2]], ["STANDARD", "DEEP_ARCHIVE"])
    groups = S3.list_objects_v2(Bucket=BUCKET, Delimiter="/")["CommonPrefixes"]
    same({"Prefix": "ls/"} in groups, True)
    later = S3.list_objects_v2(Bucket=BUCKET, Prefix="ls/", StartAfter="ls/2")["Contents"]
    same([one["Key"] for one in later], ["ls/3", "ls/4"])


@check("odd keys (UTF-8, space, +, &, 1024 bytes)")
def _():
    keys = ["odd/ä ö+&=%?#'(1)~.tar.zst.gpg", "odd/" + "k" * 1020, "odd/日本/x"]
    for key in keys:
        put(key)
        head(key)
    seen = [one["Key"] for one in S3.list_objects_v2(Bucket=BUCKET, Prefix="odd/")["Contents"]]
    same(sorted(seen), sorted(keys))


@check("versioning: 2 versions, delete marker, GET by id")
def _():
    bucket = BUCKET + "-v"
    S3.create_bucket(Bucket=bucket)
    S3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first, second = (S3.put_object(Bucket=bucket, Key="k", Body=body)["VersionId"] for body in (b"1", b"2"))
    same(S3.delete_object(Bucket=bucket, Key="k").get("DeleteMarker"), True)
    seen = S3.list_object_versions(Bucket=bucket)
    same([one["VersionId"] for one in seen["Versions"]], [second, first])
    same(len(seen["DeleteMarkers"]), 1)
    same(S3.get_object(Bucket=bucket, Key="k", VersionId=first)["Body"].read(), b"1")


@check("object lock: GOVERNANCE retention blocks delete")
def _():
    bucket = BUCKET + "-l"
    S3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    version = S3.put_object(Bucket=bucket, Key="k", Body=b"1", ObjectLockMode="GOVERNANCE",
                            ObjectLockRetainUntilDate=until, ChecksumCRC32=checksum("CRC32", b"1"))["VersionId"]
    same(S3.head_object(Bucket=bucket, Key="k").get("ObjectLockMode"), "GOVERNANCE")
    refused(403, ["AccessDenied"], S3.delete_object, Bucket=bucket, Key="k", VersionId=version)


@check("delete, delete missing (204), batch delete")
def _():
    S3.delete_object(Bucket=BUCKET, Key="tag")
    same(S3.delete_object(Bucket=BUCKET, Key="never-was")["ResponseMetadata"]["HTTPStatusCode"], 204)
    doomed = [{"Key": f"ls/{number}"} for number in range(5)] + [{"Key": "never"}]
    same(S3.delete_objects(Bucket=BUCKET, Delete={"Objects": doomed}).get("Errors", []), [])
    same(S3.list_objects_v2(Bucket=BUCKET, Prefix="ls/")["KeyCount"], 0)


@check("bucket lifecycle: AbortIncompleteMPU + transition")
def _():
    for rule in ({"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
                 {"Transitions": [{"Days": 1, "StorageClass": "DEEP_ARCHIVE"}]}):
        rule = {"ID": "a", "Status": "Enabled", "Filter": {"Prefix": "mpu/"}, **rule}
        S3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": [rule]})
        same(S3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"], [rule])


@check("SSE-S3 (AES256) header accepted and returned")
def _():
    put("sse", ServerSideEncryption="AES256")
    same(head("sse").get("ServerSideEncryption"), "AES256")


@check("x-amz-request-id in answers, 404 NoSuchKey")
def _():
    same(bool(S3.head_bucket(Bucket=BUCKET)["ResponseMetadata"].get("RequestId")), True)
    refused(404, ["NoSuchKey"], get, key="nope")


# Signatures.

def signed(method, path, data=None, headers=None):
    request = AWSRequest(method, f"{ENDPOINT}/{BUCKET}{path}", data=data, headers=headers or {})
    botocore.auth.S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION).add_auth(request)
    return request


def presigned(operation="get_object", seconds=60, key="pre"):
    return S3.generate_presigned_url(operation, Params={"Bucket": BUCKET, "Key": key}, ExpiresIn=seconds)


@check("presigned GET and PUT")
def _():
    put("pre", b"pre")
    seen = HTTP.request("GET", presigned())
    same((seen.status, seen.data), (200, b"pre"))
    same(HTTP.request("PUT", presigned("put_object", key="pre2"), body=b"zz").status, 200)


@check("presigned expired -> 403")
def _():
    url = presigned(seconds=1)
    time.sleep(2.5)
    same(HTTP.request("GET", url).status, 403)


@check("presigned tampered -> 403")
def _():
    url = presigned()
    same(HTTP.request("GET", url[:-4] + ("0000" if url[-4:] != "0000" else "1111")).status, 403)


@check("anonymous GET -> 403")
def _():
    same(HTTP.request("GET", f"{ENDPOINT}/{BUCKET}/pre").status, 403)


@check("wrong secret -> 403 SignatureDoesNotMatch")
def _():
    refused(403, ["SignatureDoesNotMatch"], client(secret="wrong" * 8).list_objects_v2, Bucket=BUCKET)


@check("unknown access key -> 403 InvalidAccessKeyId")
def _():
    refused(403, ["InvalidAccessKeyId"], client(access="AKIANOSUCHKEY0000000").list_objects_v2, Bucket=BUCKET)


@check("clock skew 1 h -> 403 RequestTimeTooSkewed")
def _():
    real = botocore.auth.get_current_datetime
    past = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) - datetime.timedelta(hours=1)
    botocore.auth.get_current_datetime = lambda *_, **__: past
    try:
        request = signed("GET", "?list-type=2")
    finally:
        botocore.auth.get_current_datetime = real
    seen = HTTP.request("GET", request.url, headers=dict(request.headers))
    same((seen.status, b"RequestTimeTooSkewed" in seen.data), (403, True))


@check("body not matching x-amz-content-sha256 -> 400")
def _():
    request = signed("PUT", "/tamper", data=b"good")
    same(HTTP.request("PUT", request.url, body=b"evil", headers=dict(request.headers)).status, 400)


# Connections.

def send_part(upload, body, announced, pause=0.0):
    """Sends a part by hand and returns the socket."""
    query = f"/raw?partNumber=1&uploadId={urllib.parse.quote(upload, safe='')}"
    request = AWSRequest("PUT", f"{ENDPOINT}/{BUCKET}{query}", headers={"Content-Length": str(announced)})
    signer = botocore.auth.S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION)
    signer.payload = lambda _: "UNSIGNED-PAYLOAD"
    signer.add_auth(request)
    host = urllib.parse.urlsplit(ENDPOINT)
    lines = [f"PUT {request.url[len(ENDPOINT):]} HTTP/1.1", f"Host: {host.netloc}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items() if name.lower() != "host"]
    stream = socket.create_connection((host.hostname, host.port), timeout=30)
    stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    step = len(body) // 10
    for start in range(0, len(body), step):
        stream.sendall(body[start:start + step])
        time.sleep(pause)
    return stream


@check("aborted part upload leaves no part")
def _():
    upload = begin("raw")
    stream = send_part(upload, PARTS[2][:300000], MIB, pause=0.02)
    stream.close()
    time.sleep(1)
    same(listed("raw", upload).get("Parts", []), [])


@check("slow part upload accepted")
def _():
    upload = begin("raw")
    stream = send_part(upload, PARTS[2], MIB, pause=0.3)
    same(stream.recv(4096)[:12], b"HTTP/1.1 200")
    stream.close()
    same([one["Size"] for one in listed("raw", upload)["Parts"]], [MIB])


@check("parallel parts, 8 threads")
def _():
    upload = begin("par")
    tags = {}

    def send(number):
        sent = client().upload_part(Bucket=BUCKET, Key="par", UploadId=upload, PartNumber=number, Body=PARTS[0])
        tags[number] = sent["ETag"]
    all_at_once(8, send)
    complete("par", upload, [{"PartNumber": number, "ETag": tags[number]} for number in sorted(tags)])
    same(head("par")["ContentLength"], 40 * MIB)
