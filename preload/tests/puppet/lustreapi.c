/* A liblustreapi.so.1 for tests: it keeps the order of fields that programs behind the library rely on, does nothing, and
 * writes down what it was asked, one line each, to the file named by PUPPET_LOG. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hsm.h"

struct copy { uint64_t data_version; uint16_t flags, errval; uint32_t padding; struct item item; };
struct ct { int magic; char *mnt; void *kuch; int mnt_fd, open_by_fid_fd; void *kuc; };
struct hcp { uint32_t magic; int32_t source_fd, data_fd; const struct ct *ct; struct copy copy; uint64_t statx[32]; };
struct progress {
	struct fid fid;
	uint64_t cookie;
	struct extent extent;
	uint16_t flags, errval;
	uint32_t padding;
};
_Static_assert(sizeof(struct hcp) == 368, "hcp");
_Static_assert(sizeof(struct copy) == 88, "copy");
_Static_assert(sizeof(struct progress) == 48, "progress");

static void note(const char *format, ...)
{
	const char *path = getenv("PUPPET_LOG");
	char line[512];
	va_list ap;
	int fd, n;

	va_start(ap, format);
	n = vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	if (!path || (fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) < 0)
		return;
	if (write(fd, line, n) != n)
		abort();
	close(fd);
}

/* What a call answers: the value of a variable, which the puppet can change. */
static int answer(const char *name)
{
	const char *value = getenv(name);

	return value ? atoi(value) : 0;
}

int llapi_search_fsname(const char *path, char *name)
{
	(void)path;
	strcpy(name, "testfs0");
	return 0;
}

int llapi_hsm_copytool_register(struct ct **ct, const char *mnt, int count, int *ids, int flags)
{
	(void)ct; (void)mnt; (void)count; (void)ids; (void)flags;
	note("real register\n");
	return -EPERM;
}

int llapi_hsm_copytool_unregister(struct ct **ct)
{
	(void)ct;
	note("real unregister\n");
	return -EINVAL;
}

int llapi_hsm_copytool_get_fd(struct ct *ct)
{
	(void)ct;
	note("real get_fd\n");
	return -EINVAL;
}

int llapi_hsm_copytool_recv(struct ct *ct, struct list **hal, int *size)
{
	(void)ct; (void)hal; (void)size;
	note("real recv\n");
	return -EINVAL;
}

int llapi_hsm_action_begin(struct hcp **phcp, const struct ct *ct, const struct item *item, int mdt, int flags, bool is_error)
{
	struct hcp *hcp;

	(void)mdt; (void)flags;
	note("begin cookie=%#lx fid=%#lx:%#x action=%u error=%d mnt=%s fds=%d\n", item->cookie, item->fid.seq, item->fid.oid,
	     item->action, is_error, ct->mnt, fcntl(ct->mnt_fd, F_GETFD) >= 0 && fcntl(ct->open_by_fid_fd, F_GETFD) >= 0);
	if (answer("PUPPET_BEGIN"))
		return answer("PUPPET_BEGIN");
	hcp = calloc(1, sizeof(*hcp));
	hcp->magic = 0x19880429;
	hcp->source_fd = hcp->data_fd = -1;
	hcp->ct = ct;
	hcp->copy.item = *item;
	if (item->action == 21)
		hcp->copy.item.dfid.oid += 1000;
	*phcp = hcp;
	return 0;
}

int llapi_hsm_action_progress(struct hcp *hcp, const struct extent *he, uint64_t total, int flags)
{
	(void)total; (void)flags;
	if (!hcp || !he)
		return -EINVAL;
	note("progress cookie=%#lx oid=%#x length=%lu\n", hcp->copy.item.cookie, hcp->copy.item.dfid.oid, he->length);
	return answer("PUPPET_PROGRESS");
}

int llapi_hsm_action_end(struct hcp **phcp, const struct extent *he, int flags, int errval)
{
	if (!phcp || !*phcp || !he || (*phcp)->magic != 0x19880429)
		return -EINVAL;
	note("end cookie=%#lx oid=%#x flags=%d errval=%d\n", (*phcp)->copy.item.cookie, (*phcp)->copy.item.fid.oid, flags,
	     errval);
	free(*phcp);
	*phcp = NULL;
	return answer("PUPPET_END");
}

/* Ioctls that the library makes itself. */
int ioctl(int fd, unsigned long request, void *argument)
{
	(void)fd;
	if (request == 0x401866d8) {
		struct progress *p = argument;

		note("ioctl progress cookie=%#lx fid=%#lx:%#x length=%lu\n", p->cookie, p->fid.seq, p->fid.oid,
		     p->extent.length);
		if (!answer("PUPPET_PROGRESS"))
			return 0;
		errno = -answer("PUPPET_PROGRESS");
		return -1;
	}
	if (request == 0x400866d7) {
		struct copy *c = argument;

		note("ioctl end cookie=%#lx oid=%#x errval=%u\n", c->item.cookie, c->item.fid.oid, c->errval);
		return 0;
	}
	errno = ENOTTY;
	return -1;
}
