#!/usr/bin/env python3
"""Holds an S3 server to what Amazon documents of S3.

usage: conformance.py ENDPOINT ACCESS_KEY SECRET_KEY [REGION]     needs: pip install 'boto3[crt]'

Prints one line per check: `OK`, a tab and its name, or `NO`, a tab, its name, a tab and what was seen instead.
The server should thaw objects within a few seconds. Checks build on what those before them stored.
"""
import base64
import datetime
import hashlib
import os
import socket
import sys
import threading
import time
import urllib.parse

import boto3
import botocore.auth
import urllib3
from awscrt import checksums as crt
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
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
HTTP = urllib3.PoolManager(retries=False, timeout=20)


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


# Objects.

@check("create bucket / head bucket")
def _():
    S3.create_bucket(Bucket=BUCKET)
    S3.head_bucket(Bucket=BUCKET)


@check("PutObject DEEP_ARCHIVE + HeadObject returns it")
def _():
    put("da/one", b"deep", StorageClass="DEEP_ARCHIVE")
    same(head("da/one").get("StorageClass"), "DEEP_ARCHIVE")


@check("invalid StorageClass rejected")
def _():
    refused(400, ["InvalidStorageClass"], put, key="da/bad", StorageClass="NOPE_CLASS")


@check("user metadata round trip")
def _():
    put("meta", Metadata={"sha256": "ab" * 32, "Archive-Id": "X-1"}, ContentType="application/pgp-encrypted")
    seen = head("meta")
    same(seen["Metadata"], {"sha256": "ab" * 32, "archive-id": "X-1"})
    same(seen["ContentType"], "application/pgp-encrypted")


# Uploads in parts.

SEEN = {}


@check("multipart: create/upload/complete, -N ETag")
def _():
    upload = begin("mpu/a", StorageClass="DEEP_ARCHIVE", Metadata={"k": "v"}, Tagging="t1=v1")
    parts = [part("mpu/a", upload, number, body) for number, body in enumerate(PARTS, 1)]
    SEEN.update(upload=upload, list=listed("mpu/a", upload), page=listed("mpu/a", upload, MaxParts=1))
    SEEN["next"] = listed("mpu/a", upload, MaxParts=1, PartNumberMarker=int(SEEN["page"]["NextPartNumberMarker"]))
    SEEN["uploads"] = S3.list_multipart_uploads(Bucket=BUCKET, Prefix="mpu/")
    complete("mpu/a", upload, parts)
    SEEN["head"] = head("mpu/a")
    digests = b"".join(hashlib.md5(body).digest() for body in PARTS)
    same((SEEN["head"]["ContentLength"], SEEN["head"]["ETag"]), (11 * MIB, f'"{hashlib.md5(digests).hexdigest()}-3"'))


@check("multipart keeps StorageClass+metadata+tags")
def _():
    tags = S3.get_object_tagging(Bucket=BUCKET, Key="mpu/a")["TagSet"]
    seen = SEEN["head"]
    same((seen.get("StorageClass"), seen["Metadata"], tags),
         ("DEEP_ARCHIVE", {"k": "v"}, [{"Key": "t1", "Value": "v1"}]))


@check("ListParts (size, ETag, class)")
def _():
    same([(one["PartNumber"], one["Size"], one["ETag"].strip('"')) for one in SEEN["list"]["Parts"]],
         [(number, len(body), hashlib.md5(body).hexdigest()) for number, body in enumerate(PARTS, 1)])
    same(SEEN["list"]["StorageClass"], "DEEP_ARCHIVE")


@check("ListParts pagination (MaxParts)")
def _():
    same((SEEN["page"]["IsTruncated"], len(SEEN["page"]["Parts"]), SEEN["next"]["Parts"][0]["PartNumber"]), (True, 1, 2))


@check("ListMultipartUploads (prefix, UploadId)")
def _():
    same([(one["Key"], one["UploadId"]) for one in SEEN["uploads"]["Uploads"]], [("mpu/a", SEEN["upload"])])


@check("abort -> ListParts 404 NoSuchUpload")
def _():
    upload = begin("mpu/ab")
    part("mpu/ab", upload, 1, PARTS[2])
    S3.abort_multipart_upload(Bucket=BUCKET, Key="mpu/ab", UploadId=upload)
    refused(404, ["NoSuchUpload"], listed, key="mpu/ab", upload=upload)


@check("re-upload of a part replaces it")
def _():
    upload = begin("mpu/re")
    part("mpu/re", upload, 1, PARTS[2])
    second = part("mpu/re", upload, 1, b"second")
    same([one["Size"] for one in listed("mpu/re", upload)["Parts"]], [6])
    complete("mpu/re", upload, [second])
    same(get("mpu/re")["Body"].read(), b"second")


def complete_refused(key, bodies, code, change):
    upload = begin(key)
    parts = [part(key, upload, number, body) for number, body in enumerate(bodies, 1)]
    refused(400, [code], complete, key=key, upload=upload, parts=change(parts))


@check("complete: wrong ETag -> 400 InvalidPart")
def _():
    complete_refused("mpu/we", [b"x"], "InvalidPart", lambda parts: [{**parts[0], "ETag": '"' + "0" * 32 + '"'}])


@check("complete: missing part -> 400 InvalidPart")
def _():
    complete_refused("mpu/wm", PARTS[:1], "InvalidPart", lambda parts: parts + [{**parts[0], "PartNumber": 2}])


@check("complete: wrong order -> 400 InvalidPartOrder")
def _():
    complete_refused("mpu/wo", PARTS[:2], "InvalidPartOrder", lambda parts: parts[::-1])


@check("complete: small middle part -> EntityTooSmall")
def _():
    complete_refused("mpu/ts", [PARTS[2], PARTS[2]], "EntityTooSmall", lambda parts: parts)


@check("PartNumber 10001 -> 400 InvalidArgument")
def _():
    refused(400, ["InvalidArgument"], part, key="mpu/pn", upload=begin("mpu/pn"), number=10001, body=b"x")


@check("UploadPart to unknown UploadId -> 404")
def _():
    refused(404, ["NoSuchUpload"], part, key="mpu/pn", upload="A" * 64, number=1, body=b"x")


@check("complete twice (lost answer) -> 200 or 404")
def _():
    upload = begin("mpu/tw")
    parts = [part("mpu/tw", upload, 1, PARTS[2])]
    complete("mpu/tw", upload, parts)
    try:
        complete("mpu/tw", upload, parts)
    except ClientError as error:
        same(reason(error), (404, "NoSuchUpload"))


# Checksums.

def sums_of_one_piece(algorithm):
    name = f"Checksum{algorithm}"

    @check(f"{algorithm}: Put accepts, Head returns it")
    def _():
        data = b"checksum me " * 1000
        value = checksum(algorithm, data)
        same(put(f"ck/{algorithm}", data, **{name: value}).get(name), value)
        same(head(f"ck/{algorithm}", ChecksumMode="ENABLED").get(name), value)

    @check(f"{algorithm}: wrong value rejected (400 BadDigest)")
    def _():
        refused(400, BAD_SUM, put, key="ck/bad", body=b"abc", **{name: checksum(algorithm, b"abd")})

    @check(f"{algorithm}: UploadPart wrong value rejected")
    def _():
        upload = begin("ck/part", ChecksumAlgorithm=algorithm)
        wrong = {name: checksum(algorithm, b"abd")}
        refused(400, BAD_SUM, part, key="ck/part", upload=upload, number=1, body=b"abc", **wrong)


for one in ALGORITHMS:
    sums_of_one_piece(one)


def upload_with_sums(algorithm, kind, key, whole=WHOLE, **more):
    """Returns the checksum that the whole should have, and what Complete and HEAD say."""
    name = f"Checksum{algorithm}"
    upload = begin(key, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    sums = [checksum(algorithm, body) for body in PARTS]
    parts = [part(key, upload, number, body, **{name: value})
             for number, (body, value) in enumerate(zip(PARTS, sums), 1)]
    same([one.get(name) for one in listed(key, upload)["Parts"]], sums)
    if kind == "FULL_OBJECT":
        wanted = checksum(algorithm, whole)
        more.update({name: wanted, "ChecksumType": kind})
    else:
        wanted = checksum(algorithm, b"".join(base64.b64decode(value) for value in sums)) + "-3"
    done = complete(key, upload, parts, **more)
    return wanted, done.get(name), head(key, ChecksumMode="ENABLED").get(name)


def sums_of_parts(algorithm, kind):
    @check(f"MPU {algorithm} {kind}: stored, ListParts shows")
    def _():
        wanted, told, kept = upload_with_sums(algorithm, kind, f"mck/{algorithm}-{kind}")
        same((told, kept), (wanted, wanted))


for one in ["CRC64NVME FULL_OBJECT", "CRC32C FULL_OBJECT", "CRC32 FULL_OBJECT", "SHA256 COMPOSITE", "CRC32C COMPOSITE"]:
    sums_of_parts(*one.split())


@check("MPU FULL_OBJECT CRC64NVME wrong -> 400 BadDigest")
def _():
    refused(400, BAD_SUM, upload_with_sums, algorithm="CRC64NVME", kind="FULL_OBJECT", key="mck/bad", whole=b"bad")


@check("MpuObjectSize wrong -> 400")
def _():
    refused(400, [], upload_with_sums, algorithm="CRC64NVME", kind="FULL_OBJECT", key="mck/size", MpuObjectSize=123)


@check("default SDK CRC32 (when_supported) accepted")
def _():
    other = client(sums="when_supported")
    other.put_object(Bucket=BUCKET, Key="ck/def", Body=b"abc")
    upload = other.create_multipart_upload(Bucket=BUCKET, Key="ck/defm")["UploadId"]
    sent = other.upload_part(Bucket=BUCKET, Key="ck/defm", UploadId=upload, PartNumber=1, Body=PARTS[2])
    other.complete_multipart_upload(**completion("ck/defm", upload, [{"PartNumber": 1, "ETag": sent["ETag"]}]))


@check("GetObjectAttributes (Checksum, ObjectParts)")
def _():
    wanted = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    seen = S3.get_object_attributes(Bucket=BUCKET, Key="mck/SHA256-COMPOSITE", ObjectAttributes=wanted)
    same((seen["ObjectSize"], len(seen["ObjectParts"]["Parts"]), "ChecksumSHA256" in seen["Checksum"]),
         (11 * MIB, 3, True))


@check("Content-MD5 wrong -> 400 BadDigest")
def _():
    wrong = base64.b64encode(hashlib.md5(b"x").digest()).decode()
    refused(400, ["BadDigest"], put, key="md5", body=b"abc", ContentMD5=wrong)


# Conditions.

@check("PUT If-None-Match:* existing -> 412")
def _():
    refused(412, ["PreconditionFailed"], put, key="meta", IfNoneMatch="*")


@check("PUT If-None-Match:* new key -> 200")
def _():
    put("inm-new", IfNoneMatch="*")


@check("PUT If-Match wrong ETag -> 412")
def _():
    refused(412, ["PreconditionFailed"], put, key="meta", IfMatch='"' + "0" * 32 + '"')


@check("Complete If-None-Match:* existing -> 412")
def _():
    upload = begin("meta")
    parts = [part("meta", upload, 1, PARTS[2])]
    refused(412, ["PreconditionFailed"], complete, key="meta", upload=upload, parts=parts, IfNoneMatch="*")


@check("PUT If-None-Match:* race, 16 threads: 1 winner")
def _():
    winners = []

    def race(number):
        try:
            body = str(number).encode() * 100000
            client().put_object(Bucket=BUCKET, Key="race", Body=body, IfNoneMatch="*")
            winners.append(number)
        except ClientError:
            pass
    all_at_once(16, race)
    same(len(winners), 1)


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
    pages = list(S3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="ls/", PaginationConfig={"PageSize": 2}))
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


def main():
    failed = 0
    for name, function in CHECKS:
        try:
            function()
            print(f"OK\t{name}", flush=True)
        except Exception as error:
            failed += 1
            print(f"NO\t{name}\t{reason(error)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
