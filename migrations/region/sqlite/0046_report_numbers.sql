-- One row: the number of the last report about organizations that this region has made to control.
CREATE TABLE causeway_report_number (
    singleton boolean PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    number bigint NOT NULL
);
INSERT INTO causeway_report_number (number) VALUES (0);
