get "${index%/*}/$tree"                                 # the listing of the whole source
open "$tree" | grep -F "$wanted" || true
list "${index%/*}/" | grep '\.manifest\.jsonl\.zst' |   # and in which piece it is
while read -r key; do
    get "$key"
    open "${key##*/}" | jq -r --arg wanted "$wanted" --arg key "$key" \
        'select(.path // "" | contains($wanted)) | "\($key): \(.path) \(.size) \(.mtime) \(.sha256)"'
    rm "${key##*/}"
done
