s3() {
    curl -sS --aws-sigv4 "aws:amz:$region:s3" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
        ${AWS_SESSION_TOKEN:+-H "x-amz-security-token: $AWS_SESSION_TOKEN"} \
        -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "$@"
}
get() { s3 -f --retry 5 -o "${1##*/}" "$endpoint/$bucket/$1"; }
list() {                                                # every key that begins so
    local page last=$1
    while page=$(s3 "$endpoint/$bucket?list-type=2&prefix=${1//\//%2F}&start-after=${last//\//%2F}")
        [[ $page == *'<Key>'* ]]; do
        page=$(grep -o '<Key>[^<]*' <<<"$page") last=${page##*>}
        cut -c 6- <<<"$page"
    done
    [[ $page == *'<ListBucketResult'* ]] || { echo "$page" >&2; return 1; }
}
readable() { s3 -f -r 0-0 -o first-byte "$endpoint/$bucket/$1" 2>/dev/null; }
thaw() {                                                # Bulk: within 48 hours; Standard: within 12, for more money
    local tier='<GlacierJobParameters><Tier>Bulk</Tier></GlacierJobParameters>'
    s3 -H 'Content-Type: application/xml' -d "<RestoreRequest><Days>14</Days>$tier</RestoreRequest>" \
        -o answer -w '%{http_code}\n' "$endpoint/$bucket/$1?restore=" | grep -qE '20[02]|409' || { cat answer >&2; return 1; }
}
