/*
 * The message functions of liblustreapi. They take variable arguments, which
 * stable Rust cannot define: here and nowhere else C is needed. The exported
 * names are in src/messages.rs, which jumps to these.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_ERRNO 0x10
#define LEVEL_MASK 0x07
#define LEVEL_WARN 3

typedef void (*log_callback)(int level, int err, const char *format, va_list arguments);

extern char *program_invocation_short_name;
/* In src/events.rs: writes a message to the event FIFO as JSON. */
extern int lustre_sim_events_open(void);
extern void lustre_sim_event_log(int level, int err, const char *text);

static int highest_level = LEVEL_WARN;
static const char *command;

static void to_stream(FILE *stream, int with_errno, int err, const char *format, va_list arguments)
{
	char line[2048];
	char prefix[256];
	int length;

	snprintf(prefix, sizeof(prefix), "%s%s%s: ", program_invocation_short_name,
		 command ? " " : "", command ? command : "");
	length = vsnprintf(line, sizeof(line), format, arguments);
	if (length >= (int)sizeof(line))
		length = sizeof(line) - 1;
	while (length > 0 && line[length - 1] == '\n')
		line[--length] = 0;
	if (with_errno)
		fprintf(stream, "%s%s: %s (%d)\n", prefix, line, strerror(err), err);
	else
		fprintf(stream, "%s%s\n", prefix, line);
}

static void default_error(int level, int err, const char *format, va_list arguments)
{
	to_stream(stderr, !(level & NO_ERRNO), err, format, arguments);
}

static void default_info(int level, int err, const char *format, va_list arguments)
{
	(void)level;
	if (err)
		to_stream(stdout, 1, err, format, arguments);
	else
		vfprintf(stdout, format, arguments);
}

static log_callback error_callback = default_error;
static log_callback info_callback = default_info;

void lustre_sim_c_error(int level, int err, const char *format, ...)
{
	int saved = errno;
	va_list arguments;

	if ((level & LEVEL_MASK) <= highest_level) {
		va_start(arguments, format);
		error_callback(level, abs(err), format, arguments);
		va_end(arguments);
	}
	errno = saved;
}

void lustre_sim_c_printf(int level, const char *format, ...)
{
	int saved = errno;
	va_list arguments;

	if ((level & LEVEL_MASK) <= highest_level) {
		va_start(arguments, format);
		info_callback(level, 0, format, arguments);
		va_end(arguments);
	}
	errno = saved;
}

/* A message of the library itself, already formatted. */
void lustre_sim_c_message(int level, int err, const char *text)
{
	lustre_sim_c_error(level, err, "%s", text);
}

void lustre_sim_c_log_error(int level, int err, const char *format, va_list arguments)
{
	char text[2048];

	if (!lustre_sim_events_open())
		return;
	vsnprintf(text, sizeof(text), format, arguments);
	lustre_sim_event_log(level, err, text);
}

log_callback lustre_sim_c_set_error_callback(log_callback callback)
{
	log_callback old = error_callback;

	error_callback = callback ? callback : default_error;
	return old;
}

log_callback lustre_sim_c_set_info_callback(log_callback callback)
{
	log_callback old = info_callback;

	info_callback = callback ? callback : default_info;
	return old;
}

void lustre_sim_c_set_level(int level)
{
	if (level < 0)
		level = 0;
	if (level > 6)
		level = 6;
	highest_level = level;
}

int lustre_sim_c_get_level(void)
{
	return highest_level;
}

void lustre_sim_c_set_command(const char *name)
{
	command = name;
}
