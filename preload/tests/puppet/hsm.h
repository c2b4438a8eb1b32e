/* What the copytools of these tests know of Lustre's HSM interface: its layouts and calls. */
#include <stdbool.h>
#include <stdint.h>

struct fid { uint64_t seq; uint32_t oid, ver; } __attribute__((packed));
struct extent { uint64_t offset, length; } __attribute__((packed));
struct item {
	uint32_t len, action;
	struct fid fid, dfid;
	struct extent extent;
	uint64_t cookie, gid;
} __attribute__((packed));
struct list {
	uint32_t version, count;
	uint64_t compound_id, flags;
	uint32_t archive_id, padding;
	char fsname[];
} __attribute__((packed));
struct ct;
struct hcp;

int llapi_hsm_copytool_register(struct ct **, const char *, int, int *, int);
int llapi_hsm_copytool_unregister(struct ct **);
int llapi_hsm_copytool_get_fd(struct ct *);
int llapi_hsm_copytool_recv(struct ct *, struct list **, int *);
int llapi_hsm_action_begin(struct hcp **, const struct ct *, const struct item *, int, int, bool);
int llapi_hsm_action_progress(struct hcp *, const struct extent *, uint64_t, int);
int llapi_hsm_action_end(struct hcp **, const struct extent *, int, int);
