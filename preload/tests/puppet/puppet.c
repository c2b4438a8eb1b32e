/* A copytool without a will of its own: it does what the lines on standard input say, and answers each with a line. */
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
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hsm.h"

#define ITEMS 100000
static struct ct *ct;
static struct item *items;
static struct hcp **hcps;
static int n_items;
static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;

/* Also called where stdio may not be used. */
static void on_term(int signal)
{
	(void)signal;
	llapi_hsm_copytool_unregister(&ct);
	_exit(7);
}

static void take(struct list *list, int size)
{
	char *at = (char *)list + 32 + ((strlen(list->fsname) + 1 + 7) & ~7UL);

	pthread_mutex_lock(&output);
	printf("list fs=%s archive=%u flags=%lu count=%u size=%d", list->fsname, list->archive_id, list->flags, list->count,
	       size);
	for (uint32_t i = 0; i < list->count; i++) {
		struct item *item = (struct item *)at;

		printf(" [%d action=%u cookie=%#lx oid=%#x len=%u data=", n_items, item->action, item->cookie, item->fid.oid,
		       item->len);
		for (uint32_t d = 72; d < item->len; d++)
			printf("%02x", (unsigned char)at[d]);
		printf("]");
		items[n_items++ % ITEMS] = *item;
		at += (item->len + 7) & ~7U;
	}
	printf(" end=%ld\n", at - (char *)list);
	fflush(stdout);
	pthread_mutex_unlock(&output);
}

static void *loop(void *argument)
{
	struct list *list;
	int size, rc;

	while ((rc = llapi_hsm_copytool_recv(argument, &list, &size)) == 0)
		take(list, size);
	printf("loop %d\n", rc);
	fflush(stdout);
	return NULL;
}

/* Archives everything in this thread as fast as it can, for ever. */
static void *work(void *argument)
{
	struct extent all = { 0, 100 };
	struct hcp *hcp;

	for (long i = (long)argument; i < (long)argument + 1000; i++) {
		if (llapi_hsm_action_begin(&hcp, ct, &items[i], -1, 0, false))
			break;
		llapi_hsm_action_progress(hcp, &all, 100, 0);
		if (llapi_hsm_action_end(&hcp, &all, 0, 0))
			break;
	}
	return NULL;
}

static pthread_barrier_t barrier;

static void *burst(void *argument)
{
	struct extent all = { 0, 100 };
	struct hcp *hcp;
	long i = (long)argument, rc;

	rc = llapi_hsm_action_begin(&hcp, ct, &items[i], -1, 0, false);
	pthread_barrier_wait(&barrier);
	return (void *)(rc ? rc : llapi_hsm_action_end(&hcp, &all, 0, 0));
}

int main(void)
{
	struct extent extent = { 0, 0 };
	char line[512], word[64], text[256];
	long a, b;

	items = calloc(ITEMS, sizeof(*items));
	hcps = calloc(ITEMS, sizeof(*hcps));
	while (fgets(line, sizeof(line), stdin)) {
		int rc = 0, status = 0;

		a = b = 0;
		text[0] = 0;
		sscanf(line, "%63s", word);
		if (!strcmp(word, "register")) {
			int ids[8], n, n_ids = 0, skip = 0;

			sscanf(line, "%*s %255s %li%n", text, &a, &skip);
			for (char *p = line + skip; n_ids < 8 && sscanf(p, "%d%n", &ids[n_ids], &n) == 1; p += n)
				n_ids++;
			rc = llapi_hsm_copytool_register(&ct, text, n_ids, ids, a);
		} else if (!strcmp(word, "recv")) {
			struct list *list;
			int size;

			rc = llapi_hsm_copytool_recv(ct, &list, &size);
			if (rc == 0) {
				take(list, size);
				continue;
			}
		} else if (!strcmp(word, "loop") || !strcmp(word, "work")) {
			pthread_t thread;

			sscanf(line, "%*s %li", &a);
			rc = pthread_create(&thread, NULL, word[0] == 'l' ? loop : work,
					    word[0] == 'l' ? (void *)ct : (void *)a);
			pthread_detach(thread);
		} else if (!strcmp(word, "begin") || !strcmp(word, "begin-error")) {
			sscanf(line, "%*s %li", &a);
			rc = llapi_hsm_action_begin(&hcps[a], ct, &items[a], -1, 0, word[5] != 0);
		} else if (!strcmp(word, "progress")) {
			sscanf(line, "%*s %li %li", &a, &b);
			extent.length = b;
			rc = llapi_hsm_action_progress(hcps[a], &extent, b, 0);
		} else if (!strcmp(word, "end")) {
			sscanf(line, "%*s %li %li", &a, &b);
			rc = llapi_hsm_action_end(&hcps[a], &extent, 0, b);
		} else if (!strcmp(word, "fork-end") || !strcmp(word, "fork-work")) {
			pid_t child;

			sscanf(line, "%*s %li %li", &a, &b);
			if (!(child = fork())) {
				if (word[5] == 'w')
					rc = llapi_hsm_action_begin(&hcps[a], ct, &items[a], -1, 0, false);
				if (!rc)
					rc = llapi_hsm_action_end(&hcps[a], &extent, 0, b);
				_exit(-rc);
			}
			waitpid(child, &status, 0);
			rc = WIFEXITED(status) ? -WEXITSTATUS(status) : -1000 - WTERMSIG(status);
		} else if (!strcmp(word, "daemon")) {
			fflush(stdout);
			if (fork())
				_exit(0);
			setsid();
		} else if (!strcmp(word, "fork-all")) {
			/* As many children as that, all at once; nothing is received before they have ended. */
			sscanf(line, "%*s %li", &a);
			for (b = 0; b < a; b++) {
				if (fork())
					continue;
				rc = llapi_hsm_action_begin(&hcps[b], ct, &items[b], -1, 0, false);
				if (!rc)
					rc = llapi_hsm_action_end(&hcps[b], &extent, 0, 0);
				_exit(-rc);
			}
			while (wait(&status) > 0)
				rc |= status;
		} else if (!strcmp(word, "close-fd")) {
			rc = close(llapi_hsm_copytool_get_fd(ct));
		} else if (!strcmp(word, "close-all")) {
			/* As copytools do that become daemons; then other files get the numbers. */
			sscanf(line, "%*s %255s", text);
			for (a = 3; a < 256; a++)
				close(a);
			while ((a = open(text, O_RDWR | O_CREAT | O_APPEND, 0600)) >= 0 && a < 64)
				;
		} else if (!strcmp(word, "exhaust")) {
			while ((a = open("/dev/null", O_RDONLY)) >= 0)
				b = a;
			rc = errno == EMFILE ? (int)b : -errno;
		} else if (!strcmp(word, "starve") || !strcmp(word, "feed")) {
			struct rlimit limit;

			getrlimit(RLIMIT_DATA, &limit);
			limit.rlim_cur = word[0] == 's' ? 4096 : limit.rlim_max;
			rc = setrlimit(RLIMIT_DATA, &limit);
		} else if (!strcmp(word, "burst")) {
			/* A thread for each item; all end at the same moment. */
			pthread_t *threads;

			sscanf(line, "%*s %li", &a);
			pthread_barrier_init(&barrier, NULL, a);
			threads = calloc(a, sizeof(*threads));
			for (b = 0; b < a; b++)
				if (pthread_create(&threads[b], NULL, burst, (void *)b))
					abort();
			for (b = 0; b < a; b++) {
				void *result;

				pthread_join(threads[b], &result);
				rc |= (long)result;
			}
			free(threads);
		} else if (!strcmp(word, "relax")) {
			sscanf(line, "%*s %li", &b);
			for (a = b; a > b - 64; a--)
				close(a);
		} else if (!strcmp(word, "getfd")) {
			rc = llapi_hsm_copytool_get_fd(ct);
		} else if (!strcmp(word, "poll")) {
			struct pollfd p = { llapi_hsm_copytool_get_fd(ct), POLLIN, 0 };

			sscanf(line, "%*s %li", &a);
			rc = poll(&p, 1, a);
		} else if (!strcmp(word, "set")) {
			sscanf(line, "%*s %255s %li", text, &a);
			snprintf(line, sizeof(line), "%ld", a);
			setenv(text, line, 1);
		} else if (!strcmp(word, "handle")) {
			signal(SIGTERM, on_term);
		} else if (!strcmp(word, "unregister")) {
			rc = llapi_hsm_copytool_unregister(&ct);
		} else if (!strcmp(word, "misuse")) {
			/* A mover handle of somebody else, as rustreapi makes it. */
			struct { int magic; char *mnt; void *kuch; int fd, by_fid; void *kuc; } other = {
				0xC0BE2222, "elsewhere", 0, 0, 0, 0 };
			struct ct *foreign = (struct ct *)&other, *none = NULL;
			struct item item = { .len = 72, .action = 20, .cookie = 77 };
			struct hcp *hcp = NULL;

			printf("misuse %d", llapi_hsm_copytool_unregister(NULL));
			printf(" %d", llapi_hsm_copytool_unregister(&none));
			printf(" %d", llapi_hsm_copytool_unregister(&foreign));
			printf(" %d", llapi_hsm_copytool_recv(NULL, NULL, NULL));
			printf(" %d", llapi_hsm_copytool_recv(foreign, NULL, NULL));
			printf(" %d", llapi_hsm_copytool_get_fd(NULL));
			printf(" %d", llapi_hsm_action_begin(&hcp, NULL, &item, -1, 0, false));
			printf(" %d", llapi_hsm_action_begin(&hcp, foreign, &item, -1, 0, false));
			printf(" %d", llapi_hsm_action_progress(NULL, &extent, 0, 0));
			printf(" %d", llapi_hsm_action_progress(hcp, &extent, 0, 0));
			printf(" %d", llapi_hsm_action_end(NULL, &extent, 0, 0));
			printf(" %d", llapi_hsm_action_end(&hcp, NULL, 0, 0));
			printf(" %d\n", llapi_hsm_action_end(&hcp, &extent, 0, 0));
			fflush(stdout);
			continue;
		} else {
			rc = -ENOSYS;
		}
		pthread_mutex_lock(&output);
		printf("%s %d\n", word, rc);
		fflush(stdout);
		pthread_mutex_unlock(&output);
	}
	return 0;
}
