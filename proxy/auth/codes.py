"""Authentication requests by number (Postgres documentation, "Message Formats", type R)."""

OK = 0
KERBEROS_V5 = 2
CLEARTEXT = 3
MD5 = 5
SCM = 6
GSS = 7
GSS_CONTINUE = 8
SSPI = 9
SASL = 10
SASL_CONTINUE = 11
SASL_FINAL = 12
