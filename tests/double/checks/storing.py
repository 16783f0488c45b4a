"""What is stored: objects, uploads in parts, checksums, conditions."""
import base64
import hashlib

from botocore.exceptions import ClientError

from .common import (
    ALGORITHMS, all_at_once, BAD_SUM, begin, BUCKET, check, checksum, client, complete, completion, get, head,
    listed, MIB, part, PARTS, put, reason, refused, S3, same, WHOLE)


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
    page = SEEN["page"]
    same((page["IsTruncated"], len(page["Parts"]), SEEN["next"]["Parts"][0]["PartNumber"]), (True, 1, 2))


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
