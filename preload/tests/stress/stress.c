/* A copytool with every habit at once, chosen by a seed: threads, children that work, children that only end, programs of
 * its own, a handler of SIGTERM that unregisters, signals all the time, descriptors closed that are not its own.
 *
 *   stress --hsm-root DIR --steps FILE [--seed N] [--alarm USEC] [--nonblock] MOUNT
 *
 * A line is added to FILE for each thing that it did, so that a test can see what was tried. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../puppet/hsm.h"
int llapi_hsm_action_get_fd(const struct hcp *);
int llapi_get_mdt_index_by_fid(int, const struct fid *, int *);

enum { ARCHIVE = 20, RESTORE, REMOVE, CANCEL };
/* What may be done with an item. */
enum { THREAD, INLINE, FORK_ALL, FORK_END, EXEC, WAYS };
static const char *const way_names[] = { "thread", "inline", "fork-all", "fork-end", "exec" };

static struct ct *ct;
static const char *archive, *mount;
static int steps = -1, root = -1;
static uint64_t state;
static volatile sig_atomic_t alarms;

struct job { struct item item; uint64_t chance; };

/* What must never be. */
static void wrong(int line)
{
	dprintf(2, "stress.c:%d: this must not be (errno %d)\n", line, errno);
	abort();
}

static void step(const char *what)
{
	char line[64];
	int n = snprintf(line, sizeof(line), "%s\n", what);

	if (write(steps, line, n) != n)
		wrong(__LINE__);
}

static uint64_t mix(uint64_t *s)
{
	uint64_t z = __atomic_add_fetch(s, 0x9e3779b97f4a7c15, __ATOMIC_RELAXED);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static void on_term(int signal)
{
	(void)signal;
	llapi_hsm_copytool_unregister(&ct);
	_exit(0);
}

static void on_alarm(int signal)
{
	(void)signal;
	alarms++;
}

static void path_of(const struct item *item, const char *suffix, char *path, size_t size)
{
	snprintf(path, size, "%s/%#lx:%#x:%#x%s", archive, item->fid.seq, item->fid.oid, item->fid.ver, suffix);
}

static int copy(struct hcp *hcp, int from, int to, uint64_t chance)
{
	struct extent extent = { 0, 0 };
	char buffer[4096];
	ssize_t n;

	while ((n = read(from, buffer, sizeof(buffer))) > 0) {
		int rc;

		if (write(to, buffer, n) != n)
			return errno;
		extent.length = n;
		rc = llapi_hsm_action_progress(hcp, &extent, n, 0);
		if (rc)
			return -rc;
		extent.offset += n;
		if (chance % 4 == 0)
			usleep(chance % 20000);
	}
	/* Longer than a lease lasts. */
	for (int i = 0; chance % 16 == 3 && i < 20; i++) {
		int rc;

		usleep(100000);
		extent.length = 0;
		rc = llapi_hsm_action_progress(hcp, &extent, 0, 0);
		if (rc)
			return -rc;
	}
	return n < 0 ? errno : 0;
}

static int transfer(struct hcp *hcp, const struct job *job)
{
	char path[4096], whole[4096], suffix[32];
	int fd, other, rc;

	path_of(&job->item, "", whole, sizeof(whole));
	if (job->item.action == REMOVE)
		return unlink(whole) ? errno : 0;
	fd = llapi_hsm_action_get_fd(hcp);
	if (fd < 0)
		return -fd;
	if (job->item.action == RESTORE) {
		other = open(whole, O_RDONLY | O_CLOEXEC);
		rc = other < 0 ? errno : copy(hcp, other, fd, job->chance);
	} else {
		snprintf(suffix, sizeof(suffix), ".%d.%lx_tmp", getpid(), (unsigned long)pthread_self());
		path_of(&job->item, suffix, path, sizeof(path));
		other = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		rc = other < 0 ? errno : copy(hcp, fd, other, job->chance);
		if (!rc && rename(path, whole))
			rc = errno;
		else if (rc)
			unlink(path);
	}
	if (other >= 0)
		close(other);
	close(fd);
	return rc;
}

static int reap(pid_t child)
{
	int status = 0;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return 0;
	return status;
}

static struct hcp *begin(const struct job *job, bool is_error)
{
	struct hcp *hcp = NULL;
	char text[32];
	int rc, mdt = -1;

	if (job->item.action == RESTORE && !is_error && llapi_get_mdt_index_by_fid(root, &job->item.fid, &mdt) < 0)
		wrong(__LINE__);
	rc = llapi_hsm_action_begin(&hcp, ct, &job->item, mdt, 0, is_error);

	if (rc) {
		snprintf(text, sizeof(text), "begin-failed %d", -rc);
		step(rc == -ECANCELED ? "refused" : rc == -EALREADY ? "already" : text);
	}
	return rc ? NULL : hcp;
}

static void end(struct hcp *hcp, const struct job *job, int error)
{
	int rc = llapi_hsm_action_end(&hcp, &job->item.extent, 0, error);
	char text[32];

	snprintf(text, sizeof(text), "end-failed %d", -rc);
	step(rc ? text : error ? "ended-with-error" : "ended");
}

/* All of it, in this thread. A begin that fails is tried once more, only to end, as copytools do. */
static void process(const struct job *job)
{
	struct hcp *hcp;

	if (job->item.action == CANCEL) {
		if (job->chance % 2 && (hcp = begin(job, true)))
			end(hcp, job, 0);
		return;
	}
	hcp = begin(job, false);
	if (hcp)
		end(hcp, job, transfer(hcp, job));
	else if ((hcp = begin(job, true)))
		end(hcp, job, EIO);
}

static void *thread(void *argument)
{
	struct job job = *(struct job *)argument;
	struct hcp *hcp;
	pid_t child;
	int error;

	free(argument);
	switch (job.chance % WAYS) {
	case FORK_ALL:
		if (!(child = fork())) {
			process(&job);
			_exit(0);
		}
		if (child > 0)
			reap(child);
		break;
	case FORK_END:
		if (!(hcp = begin(&job, false)))
			break;
		error = transfer(hcp, &job);
		if (!(child = fork())) {
			end(hcp, &job, error);
			_exit(0);
		}
		if (child > 0)
			reap(child);
		else
			end(hcp, &job, error);
		break;
	case EXEC:
		if ((child = fork()) == 0) {
			execlp("true", "true", NULL);
			_exit(127);
		}
		if (child > 0 && reap(child))
			wrong(__LINE__);
		/* fall through */
	default:
		process(&job);
	}
	return NULL;
}

static void start(const struct item *item)
{
	struct job *job = malloc(sizeof(*job));
	pthread_t id;

	job->item = *item;
	job->chance = mix(&state);
	step(way_names[job->chance % WAYS]);
	if (job->chance % WAYS == INLINE || pthread_create(&id, NULL, thread, job))
		thread(job);
	else
		pthread_detach(id);
}

static void *receive(void *argument)
{
	bool nonblocking = argument;

	for (;;) {
		struct list *list;
		int size, rc = llapi_hsm_copytool_recv(ct, &list, &size);
		char *at;

		if (rc == -EAGAIN && nonblocking) {
			struct pollfd p = { llapi_hsm_copytool_get_fd(ct), POLLIN, 0 };

			poll(&p, 1, 100);
			continue;
		}
		if (rc) {
			/* Nothing else is to be seen here. */
			step(rc == -ESHUTDOWN ? "shutdown" : "recv-failed");
			return NULL;
		}
		at = (char *)list + 32 + ((strlen(list->fsname) + 1 + 7) & ~7UL);
		for (uint32_t i = 0; i < list->count; i++) {
			struct item *item = (struct item *)at;

			at += (item->len + 7) & ~7U;
			if (item->len < sizeof(*item) || at > (char *)list + size)
				wrong(__LINE__);
			start(item);
		}
	}
}

/* What has nothing to do with any item. */
static void disturb(void)
{
	pid_t child;

	switch (mix(&state) % 6) {
	case 0:
		/* A child that inherited the handler of SIGTERM. */
		step("child-unregisters");
		if (!(child = fork()))
			on_term(SIGTERM);
		break;
	case 1:
		step("child-exits");
		if (!(child = fork()))
			exit(0);
		break;
	case 2:
		step("child-asks");
		if (!(child = fork())) {
			llapi_hsm_copytool_get_fd(ct);
			_exit(0);
		}
		break;
	case 3:
		step("close-fd");
		close(llapi_hsm_copytool_get_fd(ct));
		return;
	case 4:
		step("registers-again");
		{
			struct ct *other = NULL;

			if (llapi_hsm_copytool_register(&other, mount, 0, NULL, 0) != -EEXIST)
				wrong(__LINE__);
		}
		return;
	default:
		return;
	}
	if (child > 0)
		reap(child);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	struct itimerval timer = { { 0, 3000 }, { 0, 3000 } };
	bool nonblocking = false;
	struct stat stat;
	pthread_t id;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--hsm-root"))
			archive = argv[++i];
		else if (!strcmp(argv[i], "--steps"))
			steps = open(argv[++i], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		else if (!strcmp(argv[i], "--seed"))
			state = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--alarm"))
			timer.it_value.tv_usec = timer.it_interval.tv_usec = atol(argv[++i]);
		else if (!strcmp(argv[i], "--nonblock"))
			nonblocking = true;
		else
			mount = argv[i];
	}
	if (!archive || !mount || steps < 0 || (root = open(mount, O_RDONLY | O_CLOEXEC)) < 0)
		return 2;
	/* Each life makes other choices. */
	fstat(steps, &stat);
	state += stat.st_size;
	signal(SIGTERM, on_term);
	if (llapi_hsm_copytool_register(&ct, mount, 0, NULL, nonblocking ? O_NONBLOCK : 0))
		return 1;
	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	pthread_create(&id, NULL, receive, nonblocking ? &nonblocking : NULL);
	for (;;) {
		struct timespec pause = { 0, 30000000 };

		/* The alarm interrupts it. */
		while (nanosleep(&pause, &pause) && errno == EINTR)
			;
		disturb();
	}
}
